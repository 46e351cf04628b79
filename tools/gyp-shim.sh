#!/bin/sh
# Stands in for node-gyp under prebuildify (--node-gyp tools/gyp-shim.sh): the addon uses Node-API only, so no headers of a
# particular node are needed, and none are downloaded. The arguments (rebuild --target=... --arch=...) are not used; the
# addon is left where prebuildify looks for it, in build/Release of the folder it runs in.
exec node "$(dirname "$0")/gyp-cmake.mjs" "$PWD/build/Release"
