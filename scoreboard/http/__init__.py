"""The HTTP side: handlers by resource. A handler parses, makes one call, renders."""
