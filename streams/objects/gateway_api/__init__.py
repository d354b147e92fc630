"""The Gateway API's objects as they affect Services.

A route names Services in three ways: as a backend of its rules, in a filter (as a mirror, say), and as a parent
(GAMMA). Whether a rule gets requests follows from objects that name no Service themselves, and from other routes:

- `routes`, `references`, `matches`, `session_persistence`: a route's contents, in canonical form
- `listeners`, `hostnames`: Gateways and ListenerSets, and what their listeners accept
- `gateway_attachment`, `mesh_attachment`: where a route is attached, and which of its rules never get a request there
- `grants`: which references to other namespaces are permitted
- `policies`, `operator_choices`: what policies and annotations set for a Service
- `context`: all of these for one cluster, kept up to date

Sources: the API's own text (gateway.networking.k8s.io/v1 of release 1.6), GEP-1294 (routes in a mesh), GEP-1713
(ListenerSets), GEP-1619 (session persistence), GEP-1748 (ServiceImports).
"""
