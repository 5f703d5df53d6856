"""Masks: which zone each entry of a weight belongs to, proposed by a score; they encode nothing."""
