#!/bin/sh
# Makes the root of an image that holds one program and what it needs to run.
#
#   image-root.sh PROGRAM FOLDER
set -eu

program=$1
root=$2

mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/var/lib/postrider"
cp "$program" "$root/usr/bin/postrider"
# `ldd` names each library by its path, and the loader by its path alone.
for library in $(ldd "$program" | grep -o '/[^ ]*'); do
    mkdir -p "$root$(dirname "$library")"
    cp --dereference "$library" "$root$library"
done
cp --dereference /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'postrider:x:65532:65532::/:/' >"$root/etc/passwd"
echo 'postrider:x:65532:' >"$root/etc/group"
