"""What mgstudy needs of libraries that they do not offer in public, one file for each library.

A release may take any of it away without a word. Each function here says which public behaviour it
stands in for, and has a test in ``tests/private`` that fails by its name when that has happened.
Nothing else in mgstudy reaches into private parts.
"""
