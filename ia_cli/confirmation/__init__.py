"""What an organism does, tried beside its base: claims, triggers, and the rivals of asking."""
