"""Pages that need nothing but themselves: an HTML file with all data, styles and scripts, which loads nothing."""
