"""What self-reports say: rules over their words, and no model."""
