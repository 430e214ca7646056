"""One description per model, from which its pages, filters, forms, CSV, API, OpenAPI and change records come.

* :mod:`~ezadmin_cmdb.describe.fields`       the kinds of fields
* :mod:`~ezadmin_cmdb.describe.description`  a model's description, and the registry of all
* :mod:`~ezadmin_cmdb.describe.query`        filter, sort and page, as they stand in an address
* :mod:`~ezadmin_cmdb.describe.services`     what can be done with any described object
* :mod:`~ezadmin_cmdb.describe.pages`, :mod:`~ezadmin_cmdb.describe.api`, :mod:`~ezadmin_cmdb.describe.tabular`
"""
