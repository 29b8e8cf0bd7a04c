import java.sql.DriverManager;

/** JDBC writes as docs/writers.md says. Argument: the JDBC URL of a role of --send-role. */
public class Writers {
  static void jdbc(String url) throws Exception {
    try (var connection = DriverManager.getConnection(url)) {
      connection.setAutoCommit(false);
      try (var send = connection.prepareStatement("SELECT pgherald.send_json(?, ?::jsonb, ?)")) {
        send.setString(1, "jdbc");
        send.setString(2, "{\"id\": 7}");
        send.setString(3, "customer-3");
        send.execute();
      }
      var insert = "INSERT INTO pgherald.outbox (channel, payload) VALUES (?, ?)";
      try (var row = connection.prepareStatement(insert, new String[] {"id"})) {
        row.setString(1, "jdbc");
        row.setString(2, "x");
        row.executeUpdate();
        var keys = row.getGeneratedKeys();
        if (!keys.next() || keys.getLong(1) == 0) throw new IllegalStateException("no id came back");
      }
      connection.commit();
    }
  }

  public static void main(String[] urls) throws Exception {
    jdbc(urls[0]);
  }
}
