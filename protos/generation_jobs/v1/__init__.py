"""Generated stubs of the contract: written by ``protos/generate``, never by hand."""
