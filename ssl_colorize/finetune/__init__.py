"""Fine-tuning: an encoder learns on for a task, and is scored by the field's own figure."""
