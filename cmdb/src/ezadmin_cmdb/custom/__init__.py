"""What people add to described models: fields of their own, and tags.

* :mod:`~ezadmin_cmdb.custom.models`       definitions, typed values, tags, and the relations that every model gets
* :mod:`~ezadmin_cmdb.custom.definitions`  the definitions of a request
* :mod:`~ezadmin_cmdb.custom.kinds`        the kinds of custom fields, and the field ``tags``
* :mod:`~ezadmin_cmdb.custom.description`  the pages and API of definitions and tags
"""
