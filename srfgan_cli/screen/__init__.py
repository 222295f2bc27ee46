"""What people see and type: messages, progress, pages, and the options of the command line."""
