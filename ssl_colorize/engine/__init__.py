"""What trains: one loop for pretraining, fine-tuning and the linear probe, with all that keeps it going."""
