"""PSFs, blur maps and coefficient maps of one photograph."""
