"""A local web page over the converters. It needs the extra `web`."""
