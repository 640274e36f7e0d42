"""What reads data into tables and writes tables out: one file for each format, and listings shared by all of them."""
