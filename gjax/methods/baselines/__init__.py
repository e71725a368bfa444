"""The methods that the papers compare with, one module each."""
