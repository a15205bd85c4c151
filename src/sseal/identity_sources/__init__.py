"""Where identities come from: key sets, accounts, the store of tickets and sessions."""
