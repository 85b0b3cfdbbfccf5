"""The two colorizers that the paper is compared with (its Table 1): Dahl's, and that of Larsson et al."""
