"""Pages, tables and charts from the files of results; nothing is measured."""
