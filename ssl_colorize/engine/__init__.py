"""The trainer of pretraining, fine-tuning and the linear probe: loop, schedule, optimizer, checkpoint, processes, log."""
