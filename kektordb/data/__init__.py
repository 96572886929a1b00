"""Items in and out of an index: Arrow, pandas, files.

`verbs` has what `Index` and `RemoteIndex` can do with tables, `incoming` and `outgoing` move the items, `columns` says
what the columns of a table hold, `readers`, `writers` and `elsewhere` know files, `doors` the optional packages.
"""
