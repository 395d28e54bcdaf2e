//! Command lines of the pages that need a whole machine.

/// A test of hosts runs each of them.
pub const ON_HOST: [&str; 24] = [
    "journalctl -f -t comin",
    "journalctl -f -t comin -p notice -o cat",
    "journalctl -t comin",
    "journalctl -t comin -p notice",
    "journalctl -t comin -p notice --since today",
    "journalctl -u comin",
    "journalctl -u comin-origin",
    "journalctl COMIN_COMMIT=3f2a9c1e7b50d4861c9e2f07a35b8d6e41f0c2a9",
    "journalctl COMIN_OUTCOME=failed",
    "nix-store --gc --print-roots",
    "sudo chown -R root: /var/lib/comin/repository",
    "sudo comin retry",
    "sudo nix-collect-garbage --delete-older-than 14d",
    "sudo systemctl start comin-origin",
    "sudo systemctl start comin.path comin-origin.timer",
    "sudo systemctl stop comin",
    "systemctl --failed",
    "systemctl list-timers 'comin-*'",
    "systemctl restart comin",
    "systemctl status comin",
    "systemctl status comin-exporter.socket",
    "systemctl stop comin",
    "systemd-inhibit --list",
    "systemd-inhibit --what=shutdown --why=\"backup\" sleep 2h",
];

/// Those that need a user who is logged in, and polkit.
pub const ON_DESKTOP: [&str; 2] = [
    "systemctl --user status comin-desktop.path",
    "pkexec comin confirm",
];
