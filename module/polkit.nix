# The actions of polkit by which users who are not root may give orders to comin. By default they need the password of an
# administrator. pkexec finds an action by the program and its first argument.
#
# Path of the executable.
comin:
let
  action = command: what: ''
    <action id="org.comin.${command}">
      <description>${what}</description>
      <message>Authentication is required to ${what}</message>
      <defaults>
        <allow_any>auth_admin</allow_any>
        <allow_inactive>auth_admin</allow_inactive>
        <allow_active>auth_admin_keep</allow_active>
      </defaults>
      <annotate key="org.freedesktop.policykit.exec.path">${comin}</annotate>
      <annotate key="org.freedesktop.policykit.exec.argv1">${command}</annotate>
    </action>
  '';
in
''
  <?xml version="1.0" encoding="UTF-8"?>
  <!DOCTYPE policyconfig PUBLIC "-//freedesktop//DTD PolicyKit Policy Configuration 1.0//EN"
    "http://www.freedesktop.org/standards/PolicyKit/1/policyconfig.dtd">
  <policyconfig>
    ${action "confirm" "confirm a deployment"}
    ${action "resume" "resume deployments"}
    ${action "retry" "try a deployment again"}
    ${action "suspend" "suspend deployments"}
  </policyconfig>
''
