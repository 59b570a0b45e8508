"""What a student learns: the order of a teacher's outputs, compared softly, at three levels."""
