// JavaScript's libraries write as docs/writers.md says. Arguments: the URLs of a role of --send-role
// and of a role of --orm-role.
import assert from "node:assert";
import pg from "pg";
import postgres from "postgres";
import { DataTypes, Sequelize } from "sequelize";

const [app, orm] = process.argv.slice(2);

async function nodePostgres() {
  const client = new pg.Client({ connectionString: app });
  await client.connect();
  await client.query("BEGIN");
  await client.query("SELECT pgherald.send_json($1, $2, $3)", ["pg", JSON.stringify({ id: 7 }), "k"]);
  await client.query("SELECT pgherald.send_bytes($1, $2)", ["pg", Buffer.from([1, 255])]);
  await client.query("COMMIT");
  await client.end();
}

async function postgresJs() {
  const sql = postgres(app);
  await sql.begin(async (sql) => {
    await sql`SELECT pgherald.send_json(${"postgres"}, ${sql.json({ id: 7 })})`;
    await sql`INSERT INTO pgherald.outbox ${sql({ channel: "postgres", payload: "x" })} RETURNING id`;
  });
  await sql.end();
}

async function sequelize() {
  const db = new Sequelize(orm, { logging: false });
  const Message = db.define(
    "Message",
    {
      id: { type: DataTypes.BIGINT, primaryKey: true, autoIncrement: true },
      channel: DataTypes.TEXT,
      key: DataTypes.TEXT,
      headers: { type: DataTypes.JSONB, defaultValue: {} },
      content_type: DataTypes.TEXT,
      payload: DataTypes.TEXT,
    },
    { schema: "pgherald", tableName: "messages", timestamps: false },
  );
  const message = await Message.create({ channel: "sequelize", payload: "x" });
  assert(Number(message.id) > 0);
  await Message.bulkCreate([1, 2].map((n) => ({ channel: "sequelize", payload: `${n}` })));
  await db.close();
}

await nodePostgres();
await postgresJs();
await sequelize();
