"""The sandbox as a service over HTTPS: login, routes, the control door."""
