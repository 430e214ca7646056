"""ezadmin's CMDB: hosts and their inventory, signed configuration records, web application and REST API.

* :mod:`ezadmin_cmdb.app`      the Flask application
* :mod:`ezadmin_cmdb.worker`   publishes configuration to Kafka, stores what agents report
* :mod:`ezadmin_cmdb.main`     the command ``ezadmin-cmdb``

A domain (``hosts``, ``outbox`` …) is a folder: ``models`` (tables), ``services`` (what can be done, as functions with an
``actor``; they neither know a request nor commit), ``views`` and ``schemas`` where it has pages or an API.
"""

__version__ = "0.1.0"
