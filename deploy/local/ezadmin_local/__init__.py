"""All of ezadmin on one machine, without containers: what stands behind deploy/local/{up,down,status,logs,reset}.

Standard library only, for it runs before anything is installed. What is installed lies in `<checkout>/.ezadmin`
(virtual environment and unpacked servers, shared by all stacks of the checkout); what a stack is and knows lies in its
state folder.
"""
