"""Reports for people: web pages, pictures and videos."""
