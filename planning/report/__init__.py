"""Reports: web pages, images and videos."""
