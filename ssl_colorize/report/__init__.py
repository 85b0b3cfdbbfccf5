"""What people look at: tables in the terminal, plots and sheets of photos."""
