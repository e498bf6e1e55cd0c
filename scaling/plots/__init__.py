"""Figures of a scaling study: one file each, one look (style.py). matplotlib is imported when one is
drawn, not before."""
