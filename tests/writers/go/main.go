// Go's libraries write as docs/writers.md says. Arguments: the URLs of a role of --send-role and of a
// role of --orm-role.
package main

import (
	"context"
	"os"

	"github.com/jackc/pgx/v5"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// Message is a row of the view that setup makes for mappers.
type Message struct {
	ID      int64 `gorm:"primaryKey;autoIncrement"`
	Channel string
	Key     *string
	Headers map[string]string `gorm:"serializer:json"`
	Payload string
}

// TableName says where it lies.
func (Message) TableName() string { return "pgherald.messages" }

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func withPgx(url string) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	check(err)
	defer conn.Close(ctx)
	tx, err := conn.Begin(ctx)
	check(err)
	order := map[string]int{"id": 7}
	_, err = tx.Exec(ctx, "SELECT pgherald.send_json($1, $2, $3)", "pgx", order, "customer-3")
	check(err)
	_, err = tx.Exec(ctx, "SELECT pgherald.send_bytes($1, $2)", "pgx", []byte{1, 255})
	check(err)
	check(tx.Commit(ctx))
}

func withGorm(url string) {
	db, err := gorm.Open(postgres.Open(url), &gorm.Config{})
	check(err)
	message := Message{Channel: "gorm", Headers: map[string]string{}, Payload: "x"}
	check(db.Create(&message).Error)
	if message.ID == 0 {
		panic("no id came back")
	}
	many := []Message{{Channel: "gorm", Headers: map[string]string{"h": "v"}}, {Channel: "gorm", Headers: map[string]string{}}}
	check(db.Create(&many).Error)
}

func main() {
	withPgx(os.Args[1])
	withGorm(os.Args[2])
}
