"""Making images: engines behind one small Protocol, and the cascade that schedules them."""
