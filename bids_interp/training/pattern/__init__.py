"""Pattern of a class: what differs in anatomy, is used by the classifier, and who has it."""
