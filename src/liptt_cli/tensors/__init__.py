"""Pure tensor mathematics that knows neither models nor methods."""
