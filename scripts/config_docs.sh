#!/usr/bin/env bash
# config_docs.sh [BUILD]: write docs/config.md and docs/node.conf.example again, after a setting of
# swarm-node has changed (tools/node_settings.c).
set -eu
cd "$(dirname "$0")/.."
configdoc=${1:-build}/bin/configdoc
"$configdoc" docs/config-intro.md >docs/config.md.new && mv docs/config.md.new docs/config.md
"$configdoc" --example >docs/node.conf.example.new && mv docs/node.conf.example.new docs/node.conf.example
