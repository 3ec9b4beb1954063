"""Published figures drawn anew, with what a model of the devices says beside what was published."""
