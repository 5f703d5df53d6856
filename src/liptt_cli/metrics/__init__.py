"""What is measured of a model: nats, bytes, seconds, gains."""
