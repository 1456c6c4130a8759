"""Adapter and model directories, one's own and a stranger's: checked, written whole, stacked."""
