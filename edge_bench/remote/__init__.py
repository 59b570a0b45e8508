"""`ardx bench --host`: the same benchmark on another machine, over the user's own OpenSSH.

Here: `wheel` packs this package, `parcel` all that travels, `ssh` carries it, `client` starts,
follows and fetches one host's run, and `fleet` does so for several hosts at once.

There, out of that wheel: `receive` takes files in, `board` answers the client, and `runner`, which
no connection can end, sees to the packages (`environment`) and runs `ardx bench`. A job lives in
one folder (`layout`) that is named after its contents, so that the same command finds it again.
"""
