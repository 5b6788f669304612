//! What was counted, each figure with one definition, and the manual's page of it.
