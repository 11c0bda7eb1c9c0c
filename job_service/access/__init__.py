"""Who may reach the service and in which role: tokens, certificates, what is listened on."""
