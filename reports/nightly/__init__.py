"""What runs every night by itself: a preset of runs on one warm stack, then trends, an index page, a mail body, a webhook."""
