"""The perceptual study: people tell real photos from recoloured ones, in a web page."""
