# shellcheck shell=bash
# Sourced by the scripts of the project.
#
#   need COMMAND:PACKAGE ...
#
# Installs, through apt, the packages whose commands are missing; with all of them there it does nothing and needs no rights.
# A server that comes with a package is not started: the scripts start what they use themselves, on ports of their own.

# Debian keeps servers such as nginx where only root looks for commands.
export PATH="$PATH:/usr/sbin:/sbin"

need() {
  local pair command sudo="" missing=()
  for pair in "$@"; do
    command=${pair%%:*}
    case $command in
      # Not a command of its own: Debian's python3 comes without what venv needs.
      venv) python3 -c 'import ensurepip, venv' 2>/dev/null && continue ;;
      *) command -v "$command" >/dev/null && continue ;;
    esac
    missing+=("${pair#*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0

  command -v apt-get >/dev/null || { echo "missing, and no apt to install it: ${missing[*]}" >&2; return 1; }
  [ "$(id -u)" = 0 ] || sudo=sudo
  echo "installing ${missing[*]}" >&2
  # invoke-rc.d asks this file before it starts a service. One that is there already is the administrator's: it stays.
  local policy=/usr/sbin/policy-rc.d made="" status=0
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null && $sudo chmod 755 $policy && made=yes
  fi
  {
    $sudo apt-get update -qq &&
      $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
  } </dev/null >&2 || status=$?
  [ -z "$made" ] || $sudo rm -f $policy
  return $status
}

# venv FOLDER REQUIREMENT...: a virtual environment with these requirements (arguments of `pip install`), made once.
venv() {
  local folder=$1 word stamp
  shift
  # Another Python, another list or another text of a list makes it anew.
  stamp=$(
    python3 --version
    for word in "$@"; do if [ -f "$word" ]; then cat "$word"; else echo "$word"; fi; done
  )
  [ "$(cat "$folder/stamp" 2>/dev/null)" != "$stamp" ] || return 0
  rm -rf "$folder" &&
    python3 -m venv "$folder" &&
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$@" &&
    printf '%s\n' "$stamp" >"$folder/stamp"
}
