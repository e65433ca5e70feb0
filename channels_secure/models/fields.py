"""How long the texts in the tables may be; longer ones are cut before they are stored."""

TEXT_LENGTH = 256
SHORT_LENGTH = 64
