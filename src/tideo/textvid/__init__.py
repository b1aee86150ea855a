"""TextVid: textual videos (Tideos) as JSON, written by a language model, and checked."""
