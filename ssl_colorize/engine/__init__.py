"""The machine that trains: loop, schedule, optimizer, checkpoint, several processes, signals, log."""
