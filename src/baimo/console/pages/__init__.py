"""One file per entry of the menu."""
