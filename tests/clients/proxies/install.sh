# Debian's nginx and HAProxy, unpacked here and not installed. The versions are the release's.
set -e
[ -x root/usr/sbin/nginx ] && [ -x root/usr/sbin/haproxy ] && exit 0
mkdir -p root debs
cd debs
apt-get download -qq nginx haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1 ||
    { apt-get update -qq && apt-get download -qq nginx haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1; }
for file in *.deb; do dpkg-deb --extract "$file" ../root; done
